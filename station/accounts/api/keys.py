"""API keys and SSH keys."""

from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response

from station.accounts import services
from station.accounts.api.door import Door, operation, page_of
from station.accounts.api.serializers import (
    ApiKeySerializer,
    NewApiKey,
    NewApiKeySerializer,
    NewSshKey,
    SshKeySerializer,
)
from station.accounts.api.shapes import ListQuery
from station.core.principal import Role


class ApiKeys(Door):
    """API keys: everybody's for platform admins, yours otherwise."""

    @operation(
        "api_keys_list",
        "List API keys",
        tag="api-keys",
        query=ListQuery,
        answer=page_of(ApiKeySerializer),
        description="Platform admins see everybody's, others their own.",
    )
    def get(self, request: Request) -> Response:
        return self.page(services.visible_api_keys(self.principal), ApiKeySerializer)

    @operation(
        "api_keys_create",
        "Create an API key",
        tag="api-keys",
        body=NewApiKey,
        status=201,
        answer=NewApiKeySerializer,
        problems=[403, 404],
        description="The answer holds the whole key, this once. A key cannot create keys, unless "
        "it is an unrestricted key of a platform admin.",
    )
    def post(self, request: Request) -> Response:
        wanted = self.given
        row, key = services.create_api_key(
            self.principal,
            name=wanted["name"],
            username=wanted.get("user"),
            environment_ids=[
                services.environment(self.principal, reference).pk
                for reference in wanted.get("environments", ())
            ],
            role=Role.parse(wanted.get("role", Role.ADMIN.label)),
            expires_at=wanted.get("expires_at"),
        )
        answer = NewApiKeySerializer(row, context={"key": key})
        return self.created(answer.data, "api-key", key_id=row.key_id)


class OneApiKey(Door):
    """An API key."""

    @operation(
        "api_keys_get", "Get an API key", tag="api-keys", answer=ApiKeySerializer, problems=[404]
    )
    def get(self, request: Request, key_id: str) -> Response:
        row = self.one(services.visible_api_keys(self.principal), key_id=key_id)
        return Response(ApiKeySerializer(row).data)

    @operation(
        "api_keys_revoke",
        "Revoke an API key",
        tag="api-keys",
        status=204,
        problems=[404],
        description="It stops working with the next request. Revoking it again is no error.",
    )
    def delete(self, request: Request, key_id: str) -> Response:
        services.revoke_api_key(self.principal, key_id=key_id)
        return Response(status=status.HTTP_204_NO_CONTENT)


class SshKeys(Door):
    """SSH keys: everybody's for platform admins, yours otherwise."""

    @operation(
        "ssh_keys_list",
        "List SSH keys",
        tag="ssh-keys",
        query=ListQuery,
        answer=page_of(SshKeySerializer),
        description="Platform admins see everybody's, others their own.",
    )
    def get(self, request: Request) -> Response:
        return self.page(services.visible_ssh_keys(self.principal), SshKeySerializer)

    @operation(
        "ssh_keys_create",
        "Register an SSH key",
        tag="ssh-keys",
        body=NewSshKey,
        status=201,
        answer=SshKeySerializer,
        problems=[403, 404, 409],
    )
    def post(self, request: Request) -> Response:
        wanted = self.given
        wanted["username"] = wanted.pop("user", None)
        row = services.add_ssh_key(self.principal, **wanted)
        return self.created(SshKeySerializer(row).data, "ssh-key", ssh_key_id=row.pk)


class OneSshKey(Door):
    """An SSH key."""

    @operation(
        "ssh_keys_get", "Get an SSH key", tag="ssh-keys", answer=SshKeySerializer, problems=[404]
    )
    def get(self, request: Request, ssh_key_id: int) -> Response:
        row = self.one(services.visible_ssh_keys(self.principal), pk=ssh_key_id)
        return Response(SshKeySerializer(row).data)

    @operation(
        "ssh_keys_revoke",
        "Revoke an SSH key",
        tag="ssh-keys",
        status=204,
        problems=[404],
        description="Revoking it again is no error.",
    )
    def delete(self, request: Request, ssh_key_id: int) -> Response:
        row = self.one(services.visible_ssh_keys(self.principal), pk=ssh_key_id)
        services.revoke_ssh_key(self.principal, fingerprint=row.fingerprint)
        return Response(status=status.HTTP_204_NO_CONTENT)
