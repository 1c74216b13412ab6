"""The same labels as `hmsa.predict`, faster and in less memory."""
