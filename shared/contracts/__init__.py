"""Models of the messages, records and reports that other programs read and write."""
