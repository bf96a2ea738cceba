"""Which layers serve which tasks: how alike representations are, where gradients conflict, which experts are used."""
