"""WHAT can run: cards and catalog, files on disk, hardware fit, file and template inspection."""
