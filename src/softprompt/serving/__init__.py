"""One backbone and all its prompts over HTTP, in OpenAI's conventions."""

from softprompt.serving.app import create_app
from softprompt.serving.keys import add_key
from softprompt.serving.running import log_to_stderr, serve
from softprompt.serving.settings import ServerSettings

__all__ = ["ServerSettings", "add_key", "create_app", "log_to_stderr", "serve"]
