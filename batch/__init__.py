"""How twinrun runs at rest: decode, batch runner, schedule."""
