"""Sources: where images come from. One module a kind; `ganzoo.data.open_source` finds the right one."""
