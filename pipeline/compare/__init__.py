"""What auto labels buy: students trained with and without them, and how sure the difference is."""
