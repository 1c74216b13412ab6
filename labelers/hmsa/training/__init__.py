"""How HMSA networks are trained: losses, the objective made of them, validation by mean IoU."""
