"""Shell text cut into statements, words and their pieces, and what those pieces are; nothing has a value yet."""
