"""Compile the contracts and write their artefacts."""

from ops.rehearsal.contracts.compilation import write_artefacts

write_artefacts()
