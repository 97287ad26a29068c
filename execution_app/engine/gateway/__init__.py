"""The road of signed messages: made with the gate's leave, posted with it again, and followed on the chain.

What the gateway says is a hint. A message was executed when the chain shows its
nonce spent and its order registered; it was not when its deadline is over on a
final block and the nonce is still free. Between the two nobody knows, and the
same bytes are posted again.
"""
