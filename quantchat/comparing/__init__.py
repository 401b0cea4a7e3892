"""Two models answer one prompt: what came out, as a record that screens, commands and files share."""
