"""The training of teachers and students: what they learn from, the loop, what they leave behind."""
