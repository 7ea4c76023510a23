"""The local folder: locations, proofs, records, inventory and quarantine of files."""
