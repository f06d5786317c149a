"""A page on this machine, at which a person looks at the episodes of any source one by one."""
