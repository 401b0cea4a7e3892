"""`python -m quantchat`."""

from quantchat.cli.main import main

if __name__ == "__main__":
    main()
