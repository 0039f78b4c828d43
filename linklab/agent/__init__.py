"""The agent, from the host: its line, its protocol, and a watch for crashes."""
