"""Who may run now. Decisions are pure; nothing here waits or talks to an engine."""
