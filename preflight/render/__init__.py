"""How a report looks: text, tables and JSON."""
