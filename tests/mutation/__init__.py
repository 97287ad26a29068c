"""Mutation testing of the modules that guard money: `make mutation`, docs/mutation.md."""
