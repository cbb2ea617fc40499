"""The embedded corpus: scenes of sounds, music and speech made by code, with exact annotations."""
