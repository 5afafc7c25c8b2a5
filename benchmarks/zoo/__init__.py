"""`python -m benchmarks.zoo`: runs the programs in zoo/, and holds what gradscope finds against what is expected."""
