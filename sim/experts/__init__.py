"""Scripted experts: the next set point from the measured state alone, without clock or memory.

Being functions of the observation they recover from disturbances, and a policy can imitate them. Phases are regions
of the state, joined without jumps.
"""
