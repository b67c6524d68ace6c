"""The model client: :class:`runs.llm.client.LiteLlmClient` asks models through litellm.

Only here is litellm imported, and only when a model is first asked: it takes seconds and 170 MB.
"""
