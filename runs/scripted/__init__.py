"""The scripted model server: it speaks the OpenAI chat-completions protocol and plays a script.

It is no AI and says so: in ``system_fingerprint``, in the ``X-Scripted`` header of every response,
in ``GET /`` and in the name of its demo model, ``scripted-demo``. It exists so that the demo, the
tests and the benchmark exercise the real client path (litellm, HTTP, streaming) without a key.

    python -m runs.scripted --scenario runs/scripted/demo.yaml --port 0

A scenario file is YAML or JSON::

    scenarios:
      - name: greeting            # also the model it answers to, unless `models` says otherwise
        models: [scripted-demo]   # ["*"]: any model
        when: weather             # optional: only if the first user message contains this
        after_last: stop          # a turn past the last one: stop (HTTP 400), repeat, or loop
        turns:
          - say: "Let me look at {{input}}."
            tool_calls:
              - {name: weather__now, arguments: {city: Berlin}}
          - say: "It is {{tool.weather__now.json.celsius | round:1}} degrees."

The first scenario in the file that matches is played. Which turn is played depends on nothing but
the request: it is the number of assistant messages in it. A repeated request gets the same turn,
and any number of conversations interleave.

A turn may also have ``delay`` (before the answer), ``drip`` (between streamed pieces),
``finish_reason``, ``usage`` and faults: ``error: {status, retry_after, ...}``, ``malformed``,
``break`` (the connection is cut half-way), ``endless`` (the answer never ends). A fault with
``times: n`` strikes the first n tries of that very request, then the turn is played clean; only
this is remembered between requests. Tool calls with ``raw_arguments`` send that text as it is.

Quoting is described in :mod:`runs.scripted.template`, the fields in :mod:`runs.scripted.scenario`.
"""
