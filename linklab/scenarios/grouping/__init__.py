"""Interface groups (Dogaru, Purdila, Tapus: ICNS 2011, pages 131 to 135).

How long does it take to change many interfaces, one by one and as a group?
"""
