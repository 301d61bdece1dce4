"""Several replicas of an engine behind Ray Serve; Ray itself is loaded when they are made."""

from softprompt.serving.replicas.deployment import application
from softprompt.serving.replicas.plan import EnginePlan, Replicas
from softprompt.serving.replicas.running import serve_on_ray

__all__ = ["EnginePlan", "Replicas", "application", "serve_on_ray"]
