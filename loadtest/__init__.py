"""`moorline loadtest`: load for MQTT brokers, with exact accounts of loss, duplicates, order and latency.

The generator owns both ends of each message, so that it can verify what the broker did with it. It uses
the codec of `broker.mqtt` and nothing else of the broker; any MQTT broker can be measured.
"""
