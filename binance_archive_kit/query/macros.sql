-- The macros that come with every connection: vwap and ohlcv.
--
-- Volumes of COIN-M are contracts, as in its view. A bar must not end within a candle, or it
-- would contain what happened after its end. Bars start as those of the loader `ohlcv` do. A
-- candle that stands in several rows counts once if all its values are equal. Rows come in the
-- order of time, so a bar whose rows rise in time has each of them once: rows are compared only
-- where they do not.

CREATE OR REPLACE MACRO vwap(value, amount) AS sum(value) / nullif(sum(amount), 0);
CREATE OR REPLACE MACRO _names(field, words) AS CASE
    WHEN typeof(words) = 'VARCHAR' THEN [CAST(words AS VARCHAR)]
    WHEN len(TRY_CAST(words AS VARCHAR[])) > 0 THEN TRY_CAST(words AS VARCHAR[])
    ELSE error(field || ': give one name or a list of names') END;
CREATE OR REPLACE MACRO _months(every) AS
    12 * datepart('year', every) + datepart('month', every);
CREATE OR REPLACE MACRO _fits(every, of) AS CASE
    WHEN _months(every) > 0 THEN of NOT IN ('3d', '1w')
    WHEN epoch_us(every) <= 0 OR of = '1mo' THEN false
    WHEN of = '3d' THEN epoch_us(every) = epoch_us(INTERVAL 3 DAY)
    ELSE epoch_us(every) % epoch_us(TRY_CAST(of AS INTERVAL)) = 0 END;
CREATE OR REPLACE MACRO _bar(open_time, every, of) AS CASE
    WHEN of = '3d' OR epoch_us(every) <= 0 THEN open_time
    ELSE time_bucket(
        every, open_time, CASE WHEN _months(every) = 0 AND epoch_us(every) % 604800000000 = 0
                               THEN TIMESTAMP '1970-01-05' ELSE TIMESTAMP '1970-01-01' END) END;
CREATE OR REPLACE MACRO _due(bar, every, of) AS CASE
    WHEN NOT _fits(every, of)
        THEN error('every: ' || CAST(every AS VARCHAR) || ' is no whole multiple of the interval '
                   || of)
    WHEN of = '1mo' THEN _months(every)
    ELSE epoch_us(bar + every - bar) // epoch_us(TRY_CAST(of AS INTERVAL)) END;
CREATE OR REPLACE MACRO ohlcv(bars, of_symbol, of_interval, every) AS TABLE
    WITH timed AS (
        SELECT symbol, interval, open_time, open, high, low, close, volume,
               hash(*COLUMNS(lambda name: name NOT IN
                   ('market', 'symbol', 'interval', 'date', 'partition', 'file'))) AS row_hash,
               CASE WHEN open_time > lag(open_time) OVER () THEN 0 ELSE 1 END AS turn
        FROM query_table(bars)
        WHERE list_contains(_names('symbol', of_symbol), symbol)
          AND list_contains(_names('interval', of_interval), interval)
    ), placed AS MATERIALIZED (
        SELECT * EXCLUDE turn, _bar(open_time, every, interval) AS bar,
               sum(turn) OVER (ROWS UNBOUNDED PRECEDING) AS run
        FROM timed
    ), quick AS MATERIALIZED (
        SELECT symbol, interval, bar, arg_min(open, open_time) AS open, max(high) AS high,
               min(low) AS low, arg_max(close, open_time) AS close, sum(volume) AS volume,
               count(*) AS candles, min(run) = max(run) AS rises
        FROM placed GROUP BY symbol, interval, bar
    ), once AS (
        SELECT symbol, interval, bar, open_time, any_value(open) AS open, any_value(high) AS high,
               any_value(low) AS low, any_value(close) AS close, any_value(volume) AS volume,
               CASE WHEN min(row_hash) = max(row_hash) THEN 1
                   ELSE error(symbol || ' ' || interval || ': different candles with open_time '
                       || CAST(open_time AS VARCHAR)) END AS one
        FROM placed SEMI JOIN (FROM quick WHERE NOT rises) USING (symbol, interval, bar)
        GROUP BY symbol, interval, bar, open_time
    ), found AS (
        SELECT * EXCLUDE rises FROM quick WHERE rises
        UNION ALL
        SELECT symbol, interval, bar, arg_min(open, open_time), max(high), min(low),
               arg_max(close, open_time), sum(volume), CAST(sum(one) AS BIGINT)
        FROM once GROUP BY symbol, interval, bar
    )
    SELECT symbol, bar AS open_time, open, high, low, close, volume, candles,
           CAST(_due(bar, every, interval) AS BIGINT) AS expected_candles, interval
    FROM found ORDER BY symbol, interval, bar;
