"""Who may look and who may stop."""

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client


@pytest.fixture
def admin(database: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root", password="not-used-here"))
    return client


@pytest.fixture
def viewer(database: None) -> Client:
    """Staff with permission to look at everything, and to change nothing."""
    user = User.objects.create_user("viewer", password="not-used-here", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client = Client()
    client.force_login(user)
    return client
