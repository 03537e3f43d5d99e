"""The engine: plan, deal, commit and merge, in plain Python over ranges of positions and files.

Nothing here imports Dask. Executors carry leases to workers; the ledger in the run directory is
the only source of truth.
"""
