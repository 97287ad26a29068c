// Accounts are the development mnemonic's, which is Hardhat's default, too.
module.exports = {
  networks: {
    hardhat: {
      chainId: 31337,
      blockGasLimit: 30_000_000,
      // A transaction that reverts is mined and its sender is told the hash, as by every public node.
      throwOnTransactionFailures: false,
      mining: { auto: true, interval: 0, mempool: { order: "fifo" } },
    },
  },
};
