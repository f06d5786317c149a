"""How a job runs: plan, parts with receipts, assemble, check, publish once."""
