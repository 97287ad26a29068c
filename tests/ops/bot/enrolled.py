"""Somebody with an account of the admin site and an authenticator."""

import time

from django.contrib.auth.models import User
from django_otp.oath import TOTP
from django_otp.plugins.otp_totp.models import TOTPDevice

from ops.bot.models import TelegramUser


class Enrolled:
    """Their account, with an authenticator that never says a code twice."""

    def __init__(self, tg_user_id: int, name: str = "ann") -> None:
        user = User.objects.create_superuser(name, password="long-enough-for-a-test")
        self.device = TOTPDevice.objects.create(user=user, name="phone", confirmed=True)
        TelegramUser.objects.filter(tg_user_id=tg_user_id).update(account=name)

    def code(self) -> str:
        self.device.refresh_from_db()
        totp = TOTP(
            self.device.bin_key, self.device.step, self.device.t0, self.device.digits, self.device.drift
        )
        totp.time = time.time()
        return f"{totp.token():06d}"
