"""Environments, their variables and members, users."""

from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response

from station.accounts import environments, services
from station.accounts.api.door import Door, operation, page_of
from station.accounts.api.serializers import (
    EnvironmentChange,
    EnvironmentSerializer,
    MemberRole,
    MemberSerializer,
    NewEnvironment,
    NewUser,
    NewVariable,
    UserQuery,
    UserSerializer,
    VariableQuery,
    VariableSerializer,
    VariableValue,
)
from station.accounts.api.shapes import ListQuery
from station.core.principal import Role


class Environments(Door):
    """The environments you are a member of."""

    @operation(
        "environments_list",
        "List environments",
        tag="environments",
        query=ListQuery,
        answer=page_of(EnvironmentSerializer),
    )
    def get(self, request: Request) -> Response:
        rows = services.visible_environments(self.principal)
        return self.page(rows, EnvironmentSerializer, context={"principal": self.principal})

    @operation(
        "environments_create",
        "Create an environment",
        tag="environments",
        body=NewEnvironment,
        status=201,
        answer=EnvironmentSerializer,
        problems=[403, 409],
        description="For platform admins.",
    )
    def post(self, request: Request) -> Response:
        row = services.create_environment(self.principal, **self.given)
        answer = EnvironmentSerializer(row, context={"principal": self.principal})
        return self.created(answer.data, "environment", environment=row.name)


class OneEnvironment(Door):
    """An environment, by name or id."""

    @operation(
        "environments_get",
        "Get an environment",
        tag="environments",
        answer=EnvironmentSerializer,
        problems=[404],
    )
    def get(self, request: Request, environment: str) -> Response:
        row = services.environment(self.principal, environment)
        return Response(EnvironmentSerializer(row, context={"principal": self.principal}).data)

    @operation(
        "environments_change",
        "Pause, resume, describe or cap an environment",
        tag="environments",
        body=EnvironmentChange,
        answer=EnvironmentSerializer,
        problems=[403, 404],
        description="A paused environment accepts runs and starts none. For its admins.",
    )
    def patch(self, request: Request, environment: str) -> Response:
        change = self.given
        found = services.environment(self.principal, environment)
        row = environments.update(self.principal, found.pk, **change)
        return Response(EnvironmentSerializer(row, context={"principal": self.principal}).data)


class Members(Door):
    """Who has which role in an environment."""

    @operation(
        "members_list",
        "List an environment's members",
        tag="environments",
        query=ListQuery,
        answer=page_of(MemberSerializer),
        problems=[404],
    )
    def get(self, request: Request, environment: str) -> Response:
        found = services.environment(self.principal, environment)
        return self.page(environments.members(self.principal, found.pk), MemberSerializer)


class Member(Door):
    """One user's role in an environment."""

    @operation(
        "members_set",
        "Give a user a role in an environment",
        tag="environments",
        body=MemberRole,
        answer=MemberSerializer,
        problems=[403, 404],
        description="For admins of the environment.",
    )
    def put(self, request: Request, environment: str, username: str) -> Response:
        role = Role.parse(self.given["role"])
        found = services.environment(self.principal, environment)
        row = services.set_role(
            self.principal, username=username, environment_id=found.pk, role=role
        )
        return Response(MemberSerializer(row).data)

    @operation(
        "members_remove",
        "Take a user's role away",
        tag="environments",
        status=204,
        problems=[403, 404],
        description="For admins of the environment.",
    )
    def delete(self, request: Request, environment: str, username: str) -> Response:
        found = services.environment(self.principal, environment)
        services.set_role(self.principal, username=username, environment_id=found.pk, role=None)
        return Response(status=status.HTTP_204_NO_CONTENT)


class Variables(Door):
    """The variables of your environments."""

    @operation(
        "variables_list",
        "List variables",
        tag="variables",
        query=VariableQuery,
        answer=page_of(VariableSerializer),
        problems=[404],
    )
    def get(self, request: Request) -> Response:
        rows = services.visible_variables(self.principal)
        if (environment_id := self.wanted_environment()) is not None:
            rows = rows.filter(environment_id=environment_id)
        return self.page(rows, VariableSerializer)

    @operation(
        "variables_set",
        "Create or replace a variable",
        tag="variables",
        body=NewVariable,
        answer=VariableSerializer,
        problems=[403, 404, 409],
        description="For admins of the environment. The value of a secret is encrypted, and "
        "no answer ever holds it.",
    )
    def post(self, request: Request) -> Response:
        wanted = self.given
        found = services.environment(self.principal, wanted.pop("environment"))
        row = services.set_variable(self.principal, environment_id=found.pk, **wanted)
        return Response(VariableSerializer(row).data)


class OneVariable(Door):
    """A variable."""

    @operation(
        "variables_get",
        "Get a variable",
        tag="variables",
        answer=VariableSerializer,
        problems=[404],
    )
    def get(self, request: Request, variable_id: int) -> Response:
        row = self.one(services.visible_variables(self.principal), pk=variable_id)
        return Response(VariableSerializer(row).data)

    @operation(
        "variables_replace",
        "Replace a variable's value",
        tag="variables",
        body=VariableValue,
        answer=VariableSerializer,
        problems=[403, 404, 409],
        description="For admins of the environment.",
    )
    def put(self, request: Request, variable_id: int) -> Response:
        wanted = self.given
        row = self.one(services.visible_variables(self.principal), pk=variable_id)
        row = services.set_variable(
            self.principal,
            environment_id=row.environment_id,
            name=row.name,
            value=wanted["value"],
            secret=wanted.get("secret", row.secret),
        )
        return Response(VariableSerializer(row).data)

    @operation(
        "variables_delete",
        "Delete a variable",
        tag="variables",
        status=204,
        problems=[403, 404],
        description="For admins of the environment.",
    )
    def delete(self, request: Request, variable_id: int) -> Response:
        services.delete_variable(self.principal, variable_id=variable_id)
        return Response(status=status.HTTP_204_NO_CONTENT)


class Users(Door):
    """Users: everybody for platform admins, yourself otherwise."""

    @operation(
        "users_list",
        "List users",
        tag="users",
        query=UserQuery,
        answer=page_of(UserSerializer),
        description="Platform admins see everybody, others themselves.",
    )
    def get(self, request: Request) -> Response:
        rows = services.visible_users(self.principal)
        if "active" in self.wanted:
            rows = rows.filter(is_active=self.wanted["active"])
        return self.page(rows, UserSerializer)

    @operation(
        "users_create",
        "Create a user",
        tag="users",
        body=NewUser,
        status=201,
        answer=UserSerializer,
        problems=[403, 409],
        description="For platform admins.",
    )
    def post(self, request: Request) -> Response:
        row = services.create_user(self.principal, **self.given)
        return self.created(UserSerializer(row).data, "user", username=row.username)


class OneUser(Door):
    """A user, by name."""

    @operation("users_get", "Get a user", tag="users", answer=UserSerializer, problems=[404])
    def get(self, request: Request, username: str) -> Response:
        row = self.one(services.visible_users(self.principal), username=username)
        return Response(UserSerializer(row).data)
