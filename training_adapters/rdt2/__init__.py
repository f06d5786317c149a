"""RDT2: what its training sees of our shards, and what it needs beside them."""
