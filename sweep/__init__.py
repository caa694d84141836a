"""Searches the training recipe that makes a fixed, small corpus go furthest."""
