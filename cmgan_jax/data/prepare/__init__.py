"""Corpora that the program makes: from one's own recordings, from VoiceBank+DEMAND, from synthetic speech."""
