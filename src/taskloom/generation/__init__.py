"""What an answer that is written may be: forms of text that always parse, held to token by token."""
