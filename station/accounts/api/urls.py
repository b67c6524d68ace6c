"""The paths of identities, environments and variables, below ``/api/v1/``."""

from django.urls import path

from station.accounts.api import keys, views

urlpatterns = [
    path("environments", views.Environments.as_view(), name="environments"),
    path("environments/<str:environment>", views.OneEnvironment.as_view(), name="environment"),
    path("environments/<str:environment>/members", views.Members.as_view(), name="members"),
    path(
        "environments/<str:environment>/members/<str:username>",
        views.Member.as_view(),
        name="member",
    ),
    path("variables", views.Variables.as_view(), name="variables"),
    path("variables/<int:variable_id>", views.OneVariable.as_view(), name="variable"),
    path("users", views.Users.as_view(), name="users"),
    path("users/<str:username>", views.OneUser.as_view(), name="user"),
    path("api-keys", keys.ApiKeys.as_view(), name="api-keys"),
    path("api-keys/<str:key_id>", keys.OneApiKey.as_view(), name="api-key"),
    path("ssh-keys", keys.SshKeys.as_view(), name="ssh-keys"),
    path("ssh-keys/<int:ssh_key_id>", keys.OneSshKey.as_view(), name="ssh-key"),
]
