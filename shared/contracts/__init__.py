"""What other programs read and write: models of messages, records and reports."""
