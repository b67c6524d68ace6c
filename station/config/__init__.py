"""The typed configuration: a YAML file and ``STN_*`` variables become one frozen object."""

from station.config.loading import load
from station.config.problems import ConfigError, Problem
from station.config.process import current, reset
from station.config.redaction import redacted
from station.config.schema import Config

__all__ = ["Config", "ConfigError", "Problem", "current", "load", "redacted", "reset"]
