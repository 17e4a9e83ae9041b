"""A verdict as HTML, JSON, Markdown and a few terminal lines. Nothing here needs Spark."""
