"""What tests of the websocket need: a Redis, a server, a client, and a site that uses channels."""
