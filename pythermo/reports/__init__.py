"""Results for people: sections of text and tables, and what renders them."""
