from django.apps import AppConfig


class AuditConfig(AppConfig):
    name = "ops.audit"
    label = "audit"
    verbose_name = "Audit"
