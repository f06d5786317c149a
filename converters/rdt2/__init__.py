"""RDT2's shards of samples: two wrist cameras, and a chunk of relative poses of two arms; written."""
