"""The rows are the truth; every 'at most one' is a constraint."""

from execution_app.models.archives import Archive, ArchivedTable
from execution_app.models.audit import AuditEntry
from execution_app.models.book import Correction, Fill, Position, VenueOrder
from execution_app.models.chain import Chain
from execution_app.models.control import Control, Heartbeat, ModeChange, PoolBeat, Restriction, StackMode
from execution_app.models.external import ExternalTrade
from execution_app.models.intents import TxIntent
from execution_app.models.margin import MarginChange
from execution_app.models.messages import VenueMessage
from execution_app.models.passkeys import Passkey
from execution_app.models.people import Person
from execution_app.models.prices import FeedPrice, MarketState, Price, PriceTick
from execution_app.models.protection import Protection, ProtectionTrigger
from execution_app.models.restores import RestorePoint
from execution_app.models.risk import Cap, Reservation, RiskLog
from execution_app.models.sends import SignRequest, TxReceipt, TxSend
from execution_app.models.shadow import Shadow
from execution_app.models.traders import Trader, Wallet
from execution_app.models.transitions import IntentMove, IntentTransition

__all__ = [
    "Archive",
    "ArchivedTable",
    "AuditEntry",
    "Cap",
    "Chain",
    "Control",
    "Correction",
    "ExternalTrade",
    "FeedPrice",
    "Fill",
    "Heartbeat",
    "IntentMove",
    "IntentTransition",
    "MarginChange",
    "MarketState",
    "ModeChange",
    "Passkey",
    "Person",
    "PoolBeat",
    "Position",
    "Price",
    "PriceTick",
    "Protection",
    "ProtectionTrigger",
    "Reservation",
    "RestorePoint",
    "Restriction",
    "RiskLog",
    "Shadow",
    "SignRequest",
    "StackMode",
    "Trader",
    "TxIntent",
    "TxReceipt",
    "TxSend",
    "VenueMessage",
    "VenueOrder",
    "Wallet",
]
