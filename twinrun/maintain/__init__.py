"""Keep the tables small and lawful: compaction, removal of files, retention, erasure; nothing that is pinned goes."""
