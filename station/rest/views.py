"""What REST views build on."""

from typing import Any

from rest_framework.request import Request
from rest_framework.views import APIView
from rest_framework.viewsets import GenericViewSet

from station.core.errors import Unauthenticated
from station.core.principal import Principal
from station.observe.context import bind_principal


def principal_of(request: Request) -> Principal:
    """Who makes the request, as ``request.auth`` says.

    Raises:
        Unauthenticated: nobody known does.
    """
    if isinstance(request.auth, Principal):
        return request.auth
    raise Unauthenticated(fix="Send Authorization: Bearer stn_…, or log in.")


class _WithPrincipal(APIView):
    @property
    def principal(self) -> Principal:
        """Who makes the request. Raises :class:`Unauthenticated`."""
        return principal_of(self.request)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if isinstance(request.auth, Principal):
            bind_principal(request.auth)


class View(_WithPrincipal):
    """One resource: methods ``get``, ``post``, … use ``self.principal`` and call services."""


class ViewSet(_WithPrincipal, GenericViewSet[Any]):
    """A collection: ``list``, ``retrieve``, … use ``self.principal`` and call services."""
