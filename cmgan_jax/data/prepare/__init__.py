"""Preparation of corpora: the user's own recordings, VoiceBank+DEMAND, and the built-in demo corpus."""
