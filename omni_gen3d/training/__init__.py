"""How the embedded weights were made: worlds, losses, loops. Nothing outside the train and eval verbs imports it."""
