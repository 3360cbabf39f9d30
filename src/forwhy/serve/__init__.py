"""A service and a page that give reasons: `forwhy serve`. Needs ``forwhy[serve]``; only `forwhy.cli` imports it."""
