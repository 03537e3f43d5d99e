"""How leases reach workers: in this process, or pulled by Dask workers."""
